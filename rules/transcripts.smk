# Purpose: from speech to words with times.
# Needs:   clips/{shard}.tar and its index; for Whisper a local checkpoint (`corpora.<corpus>.transcribe.model`); for captions and
#          YT-Temporal their files (`transcribe.annotations`).
# Makes:   results/corpora/{corpus}/transcripts/{shard}.parquet, one row per clip, one schema for every engine.


rule annotations:
    # YT-Temporal's files, indexed by video once: no shard searches through all of them
    input:
        lambda wildcards: EXPERIMENT.config.corpora[wildcards.corpus].transcribe.annotations,
    output:
        "results/corpora/{corpus}/annotations.sqlite",
    log:
        "results/logs/annotations/{corpus}.log",
    benchmark:
        "results/benchmarks/annotations/{corpus}.jsonl"
    conda:
        "../envs/transcribe.yaml"
    threads: EXPERIMENT.config.resources.annotations.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.annotations.mem_mb,
        runtime=EXPERIMENT.config.resources.annotations.runtime,
    shell:
        "tvts annotations {input} --output {output} > {log} 2>&1"


rule transcribe:
    input:
        tar="results/corpora/{corpus}/clips/{shard}.tar",
        index="results/corpora/{corpus}/clips/{shard}.parquet",
        needed=lambda wildcards: transcribe_inputs(wildcards.corpus),
    output:
        "results/corpora/{corpus}/transcripts/{shard}.parquet",
    log:
        "results/logs/transcribe/{corpus}/{shard}.log",
    benchmark:
        "results/benchmarks/transcribe/{corpus}/{shard}.jsonl"
    conda:
        "../envs/transcribe.yaml"
    threads: EXPERIMENT.config.resources.transcribe.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.transcribe.mem_mb,
        runtime=EXPERIMENT.config.resources.transcribe.runtime,
        gpu=EXPERIMENT.config.resources.transcribe.gpus,
        running=lambda wildcards: operational(EXPERIMENT.config.corpora[wildcards.corpus].transcribe),
    params:
        settings=lambda wildcards: transcribe_settings(wildcards.corpus),
    shell:
        "tvts transcribe --tar {input.tar} --index {input.index} --settings {params.settings:q}"
        " --running {resources.running:q} --threads {threads} --output {output} > {log} 2>&1"
