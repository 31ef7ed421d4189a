"""Video files by PyAV: probe, cut and transcode, sparse and whole decoding, audio. No other module opens a video."""

from tvts.corpus.media.audio import read_audio
from tvts.corpus.media.probe import Probe, packet_hash, probe
from tvts.corpus.media.read import count_frames, frame_indices, read_all_frames, read_frames
from tvts.corpus.media.transcode import ClipInfo, transcode

__all__ = [
    "ClipInfo", "Probe", "count_frames", "frame_indices", "packet_hash", "probe", "read_all_frames", "read_audio", "read_frames",
    "transcode",
]  # fmt: skip
