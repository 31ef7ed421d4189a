# Purpose: from words with times to windows of K segments whose transcripts can be shuffled, or to captioned clips.
# Needs:   clips and transcripts of the dataset's corpus.
# Makes:   results/datasets/{dataset}/card.json (attrition from URL to window, hash of all inputs), and beside it {shard}.parquet and
#          cost.json (seconds per clip, real-time factor of each engine).


rule dataset_card:
    # a shard takes about a second, so one job makes them all; those whose inputs did not change stay
    input:
        plan=lambda wildcards: f"results/corpora/{corpus_of(wildcards.dataset)}/plan.parquet",
        indexes=lambda wildcards: expand(
            "results/corpora/{corpus}/clips/{shard}.parquet",
            corpus=corpus_of(wildcards.dataset),
            shard=shard_names(corpus_of(wildcards.dataset)),
        ),
        transcripts=lambda wildcards: transcripts_of(wildcards.dataset, shard_names(corpus_of(wildcards.dataset))),
    output:
        "results/datasets/{dataset}/card.json",
    log:
        "results/logs/dataset/{dataset}.log",
    benchmark:
        "results/benchmarks/dataset/{dataset}.jsonl"
    conda:
        "../envs/corpus.yaml"
    threads: EXPERIMENT.config.resources.dataset.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.dataset.mem_mb,
        runtime=EXPERIMENT.config.resources.dataset.runtime,
    params:
        settings=lambda wildcards: settings("datasets", wildcards.dataset),
        clips=lambda wildcards, input: subpath(input.indexes[0], parent=True),
        transcripts=lambda wildcards, input: (
            f"--transcripts {subpath(input.transcripts[0], parent=True)}" if input.transcripts else ""
        ),
    shell:
        "tvts dataset --plan {input.plan} --clips {params.clips} {params.transcripts} --settings {params.settings:q}"
        " --threads {threads} --card {output} > {log} 2>&1"
