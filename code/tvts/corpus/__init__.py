"""From a list of videos to clips and their transcripts: plan, fetch, cut, shards, transcribe, windows."""
