# Purpose: from speech to words with times.
# Needs:   clips/{shard}.tar and its index; for Whisper a local checkpoint (`corpora.<corpus>.transcribe.model`).
# Makes:   results/corpora/{corpus}/transcripts/{shard}.parquet, one row per clip, one schema for every engine.


rule transcribe:
    input:
        tar="results/corpora/{corpus}/clips/{shard}.tar",
        index="results/corpora/{corpus}/clips/{shard}.parquet",
        model=lambda wildcards: EXPERIMENT.config.corpora[wildcards.corpus].transcribe.model or [],
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
    params:
        settings=lambda wildcards: settings("corpora", wildcards.corpus, "transcribe"),
    shell:
        "tvts transcribe --tar {input.tar} --index {input.index} --settings {params.settings:q}"
        " --threads {threads} --output {output} > {log} 2>&1"
