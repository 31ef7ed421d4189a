# Purpose: from words with times to windows of K segments whose transcripts can be shuffled, or to captioned clips.
# Needs:   clips and transcripts of the dataset's corpus.
# Makes:   results/datasets/{dataset}/{shard}.parquet and card.json (attrition from URL to window, hash of all inputs), and beside the card
#          cost.json (seconds per clip, real-time factor of each engine).


rule dataset_shard:
    input:
        index=lambda wildcards: f"results/corpora/{corpus_of(wildcards.dataset)}/clips/{wildcards.shard}.parquet",
        transcripts=lambda wildcards: transcripts_of(wildcards.dataset, [wildcards.shard]),
    output:
        "results/datasets/{dataset}/{shard}.parquet",
    log:
        "results/logs/dataset/{dataset}/{shard}.log",
    benchmark:
        "results/benchmarks/dataset/{dataset}/{shard}.jsonl"
    conda:
        "../envs/corpus.yaml"
    threads: EXPERIMENT.config.resources.dataset.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.dataset.mem_mb,
        runtime=EXPERIMENT.config.resources.dataset.runtime,
    params:
        settings=lambda wildcards: settings(EXPERIMENT.config.datasets[wildcards.dataset]),
        transcripts=lambda wildcards, input: f"--transcripts {input.transcripts}" if input.transcripts else "",
    shell:
        "tvts dataset --index {input.index} {params.transcripts} --settings {params.settings:q} --output {output} > {log} 2>&1"


rule dataset_card:
    input:
        plan=lambda wildcards: f"results/corpora/{corpus_of(wildcards.dataset)}/plan.parquet",
        indexes=lambda wildcards: expand(
            "results/corpora/{corpus}/clips/{shard}.parquet",
            corpus=corpus_of(wildcards.dataset),
            shard=shard_names(corpus_of(wildcards.dataset)),
        ),
        transcripts=lambda wildcards: transcripts_of(wildcards.dataset, shard_names(corpus_of(wildcards.dataset))),
        shards=lambda wildcards: expand(
            "results/datasets/{dataset}/{shard}.parquet",
            dataset=wildcards.dataset,
            shard=shard_names(corpus_of(wildcards.dataset)),
        ),
    output:
        "results/datasets/{dataset}/card.json",
    log:
        "results/logs/dataset/{dataset}/card.log",
    benchmark:
        "results/benchmarks/dataset/{dataset}/card.jsonl"
    conda:
        "../envs/corpus.yaml"
    resources:
        mem_mb=EXPERIMENT.config.resources.dataset.mem_mb,
        runtime=EXPERIMENT.config.resources.dataset.runtime,
    params:
        settings=lambda wildcards: settings(EXPERIMENT.config.datasets[wildcards.dataset]),
        clips=lambda wildcards, input: subpath(input.indexes[0], parent=True),
        shards=lambda wildcards, output: subpath(output[0], parent=True),
        transcripts=lambda wildcards, input: (
            f"--transcripts {subpath(input.transcripts[0], parent=True)}" if input.transcripts else ""
        ),
    shell:
        "tvts card --plan {input.plan} --clips {params.clips} {params.transcripts} --shards {params.shards}"
        " --settings {params.settings:q} --output {output} > {log} 2>&1"
