# Purpose: from a list of videos to verified, short, cheaply decodable clips.
# Needs:   the list of each corpus (`corpora.<corpus>.list`).
# Makes:   results/corpora/{corpus}/plan.parquet, clips/{shard}.tar and clips/{shard}.parquet (one row per video and span).
# Again:   `tvts retry results/corpora/CORPUS/clips`, then this workflow, tries failures again that may have passed, and nothing else.


rule missing:
    # a file that only you can provide; the rule exists for files that are not there
    output:
        "{path}",
    log:
        "results/logs/missing/{path}.log",
    wildcard_constraints:
        path=one_of(MISSING),
    localrule: True
    conda:
        "../envs/corpus.yaml"
    params:
        how=lambda wildcards: MISSING[wildcards.path],
    message:
        "missing: {output}. To get it: {params.how}"
    shell:
        "echo {wildcards.path:q} is missing. To get it: {params.how:q} | tee {log} >&2; exit 1"


rule plan:
    # which videos, in which shard, for ever
    input:
        lambda wildcards: EXPERIMENT.config.corpora[wildcards.corpus].list,
    output:
        "results/corpora/{corpus}/plan.parquet",
    log:
        "results/logs/plan/{corpus}.log",
    benchmark:
        "results/benchmarks/plan/{corpus}.jsonl"
    conda:
        "../envs/corpus.yaml"
    threads: EXPERIMENT.config.resources.plan.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.plan.mem_mb,
        runtime=EXPERIMENT.config.resources.plan.runtime,
    params:
        settings=lambda wildcards: settings(
            EXPERIMENT.config.corpora[wildcards.corpus], without={"fetch", "transcribe"}
        ),
    shell:
        "tvts plan --settings {params.settings:q} --output {output} > {log} 2>&1"


rule download:
    # fetch, cut, transcode and verify a shard of videos; a bad video is a row, never a failed job
    input:
        plan="results/corpora/{corpus}/plan.parquet",
        words=lambda wildcards: words_of_spans(wildcards.corpus),
    output:
        tar="results/corpora/{corpus}/clips/{shard}.tar",
        index="results/corpora/{corpus}/clips/{shard}.parquet",
    log:
        "results/logs/download/{corpus}/{shard}.log",
    benchmark:
        "results/benchmarks/download/{corpus}/{shard}.jsonl"
    conda:
        "../envs/corpus.yaml"
    threads: EXPERIMENT.config.resources.download.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.download.mem_mb,
        runtime=EXPERIMENT.config.resources.download.runtime,
        videos_per_hour=EXPERIMENT.config.resources.videos_per_hour,
        running=lambda wildcards: operational(EXPERIMENT.config.corpora[wildcards.corpus]),
    params:
        settings=lambda wildcards: fetch_settings(wildcards.corpus),
    shell:
        "tvts download --plan {input.plan} --shard {wildcards.shard} --settings {params.settings:q}"
        " --running {resources.running:q} --threads {threads} --videos-per-hour {resources.videos_per_hour}"
        " --tar {output.tar} --index {output.index} > {log} 2>&1"
