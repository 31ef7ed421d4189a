# Purpose: frozen evaluations: embed once per run and benchmark, then score.
# Needs:   a run's model (or its CLIP folder, for baselines), annotations and videos of the benchmark.
# Makes:   results/embeddings/{run}/{benchmark}.safetensors, results/scores/{run}/{benchmark}.{protocol}.json


rule embed:
    input:
        config="results/runs/{run}/config.json",
        model=lambda wildcards: model_of(wildcards.run),
        benchmark=lambda wildcards: folders_of(wildcards.benchmark),
    output:
        "results/embeddings/{run}/{benchmark}.safetensors",
    log:
        "results/logs/embed/{run}/{benchmark}.log",
    benchmark:
        "results/benchmarks/embed/{run}/{benchmark}.jsonl"
    conda:
        "../envs/evaluate.yaml"
    threads: EXPERIMENT.config.resources.embed.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.embed.mem_mb,
        runtime=EXPERIMENT.config.resources.embed.runtime,
        gpu=EXPERIMENT.config.resources.embed.gpus,
        processes=max(1, EXPERIMENT.config.resources.embed.gpus),
        running=operational(EXPERIMENT.config.evaluation),
        reader=EXPERIMENT.config.media.reader,
    params:
        model=lambda wildcards: model_folder(wildcards.run),
        benchmark=lambda wildcards: settings(EXPERIMENT.config.benchmarks[wildcards.benchmark]),
        evaluation=settings(EXPERIMENT.config.evaluation, without={"ties", "dsl_temperature"}),
        # finished batches lie undeclared, so that a killed job continues; the folder may be deleted
        cache="results/embeddings/.cache",
    shell:
        "tvts embed-benchmark {input.config} --model {params.model} --settings {params.benchmark:q}"
        " --evaluation {params.evaluation:q} --running {resources.running:q} --reader {resources.reader}"
        " --cache {params.cache} --processes {resources.processes} --threads {threads} --output {output} > {log} 2>&1"


rule score:
    input:
        "results/embeddings/{run}/{benchmark}.safetensors",
    output:
        "results/scores/{run}/{benchmark}.{protocol}.json",
    log:
        "results/logs/score/{run}/{benchmark}.{protocol}.log",
    benchmark:
        "results/benchmarks/score/{run}/{benchmark}.{protocol}.jsonl"
    wildcard_constraints:
        protocol="retrieval|recognition|linear_probe|multiple_choice",
    conda:
        "../envs/evaluate.yaml"
    threads: EXPERIMENT.config.resources.score.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.score.mem_mb,
        runtime=EXPERIMENT.config.resources.score.runtime,
        # a probe on Kinetics fits 400 classes on 240,000 features a few hundred times
        gpu=lambda wildcards: EXPERIMENT.config.resources.score.gpus if wildcards.protocol == "linear_probe" else 0,
        running=operational(EXPERIMENT.config.evaluation),
    params:
        evaluation=settings(EXPERIMENT.config.evaluation),
    shell:
        "tvts score {input} --protocol {wildcards.protocol} --evaluation {params.evaluation:q}"
        " --running {resources.running:q} --threads {threads} --output {output} > {log} 2>&1"


rule score_sorting:
    # transcript sorting on the held-out windows of a training set
    input:
        config="results/runs/{run}/config.json",
        model="results/runs/{run}/model",
        dataset="results/datasets/{dataset}/card.json",
    output:
        "results/scores/{run}/{dataset}.sorting.json",
    log:
        "results/logs/score/{run}/{dataset}.sorting.log",
    benchmark:
        "results/benchmarks/score/{run}/{dataset}.sorting.jsonl"
    conda:
        "../envs/evaluate.yaml"
    threads: EXPERIMENT.config.resources.score.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.score.mem_mb,
        runtime=EXPERIMENT.config.resources.score.runtime,
        reader=EXPERIMENT.config.media.reader,
    shell:
        "tvts score-sorting {input.config} --model {input.model} --dataset {input.dataset} --reader {resources.reader}"
        " --threads {threads} --output {output} > {log} 2>&1"


rule score_distortion:
    # how far the text encoder has moved from its CLIP, on captions and on speech
    input:
        config="results/runs/{run}/config.json",
        model=lambda wildcards: model_of(wildcards.run),
        dataset="results/datasets/{dataset}/card.json",
        embeddings=lambda wildcards: f"results/embeddings/{wildcards.run}/{captions()}.safetensors",
    output:
        "results/scores/{run}/{dataset}.distortion.json",
    log:
        "results/logs/score/{run}/{dataset}.distortion.log",
    benchmark:
        "results/benchmarks/score/{run}/{dataset}.distortion.jsonl"
    conda:
        "../envs/evaluate.yaml"
    threads: EXPERIMENT.config.resources.score.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.score.mem_mb,
        runtime=EXPERIMENT.config.resources.score.runtime,
        running=operational(EXPERIMENT.config.evaluation),
        reader=EXPERIMENT.config.media.reader,
    params:
        model=lambda wildcards: model_folder(wildcards.run),
        benchmark=lambda wildcards: settings(EXPERIMENT.config.benchmarks[captions()]),
        evaluation=settings(EXPERIMENT.config.evaluation),
    shell:
        "tvts score-distortion {input.config} --model {params.model} --dataset {input.dataset}"
        " --embeddings {input.embeddings} --settings {params.benchmark:q} --evaluation {params.evaluation:q}"
        " --running {resources.running:q} --reader {resources.reader} --threads {threads} --output {output} > {log} 2>&1"
