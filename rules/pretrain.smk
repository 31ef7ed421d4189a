# Purpose: TVTS pre-training of every run.
# Needs:   the run's CLIP folder and the cards of its datasets (whose shards and clips it reads).
# Makes:   results/runs/{run}/config.json (frozen), model/ (save_pretrained) and card.json.
#          Checkpoints, metrics.jsonl and the logs of all attempts lie undeclared in results/runs/{run}/training/: Snakemake removes declared
#          outputs of a job that is killed, and a killed training must be able to continue.


rule freeze:
    # what decides the result of a run; rewritten, and so training rerun, when a setting of that kind changes
    output:
        "results/runs/{run}/config.json",
    log:
        "results/logs/freeze/{run}.log",
    localrule: True
    conda:
        "../envs/train.yaml"
    params:
        settings=lambda wildcards: frozen_run(EXPERIMENT, wildcards.run),
    shell:
        "printf '%s\n' {params.settings:q} > {output} 2> {log}"


rule pretrain:
    input:
        config="results/runs/{run}/config.json",
        clip=lambda wildcards: f"{EXPERIMENT.runs[wildcards.run].model.clip}/config.json",
        datasets=lambda wildcards: expand(
            "results/datasets/{dataset}/card.json", dataset=EXPERIMENT.runs[wildcards.run].data.datasets
        ),
    output:
        model=directory("results/runs/{run}/model"),
        card="results/runs/{run}/card.json",
    log:
        "results/logs/pretrain/{run}.log",
    benchmark:
        "results/benchmarks/pretrain/{run}.jsonl"
    wildcard_constraints:
        run=one_of(name for name, run in EXPERIMENT.runs.items() if run.kind == "tvts"),
    conda:
        "../envs/train.yaml"
    threads: lambda wildcards: launch(wildcards.run).threads
    resources:
        mem_mb=lambda wildcards: launch(wildcards.run).mem_mb,
        runtime=lambda wildcards: launch(wildcards.run).minutes,
        nodes=lambda wildcards: launch(wildcards.run).nodes,
        per_node=lambda wildcards: max(1, launch(wildcards.run).gpus),
        processes=lambda wildcards: launch(wildcards.run).processes,
        without_slurm=lambda wildcards: torchrun(wildcards.run),
        running=lambda wildcards: operational(EXPERIMENT.runs[wildcards.run]),
        reader=EXPERIMENT.config.media.reader,
        gres=lambda wildcards: f"gpu:{launch(wildcards.run).gpus}" if launch(wildcards.run).gpus else None,
        tasks_per_gpu=0,
        mpi=lambda wildcards: "srun" if launch(wildcards.run).processes > 1 else None,
        tasks_per_node=lambda wildcards: launch(wildcards.run).gpus if launch(wildcards.run).gpus > 1 else None,
        tasks=lambda wildcards: (
            launch(wildcards.run).nodes if launch(wildcards.run).processes == launch(wildcards.run).nodes > 1 else None
        ),
        slurm_extra=lambda wildcards: f"--signal=TERM@{warning_seconds(launch(wildcards.run).minutes)} --open-mode=append",
    params:
        training=lambda wildcards, output: f"{subpath(output.card, parent=True)}/training",
        datasets=lambda wildcards, input: " ".join(f"--dataset {card}" for card in input.datasets),
    shell:
        # each attempt keeps its log beside the checkpoints; one process per GPU: under SLURM started by srun, so that SIGTERM reaches it
        "mkdir -p {params.training}/logs; attempt=$(date +%Y-%m-%dT%H-%M-%S).log; touch {params.training}/logs/$attempt;"
        " ln -sf ../../runs/{wildcards.run}/training/logs/$attempt {log};"
        " start=${{SLURM_JOB_ID:+srun --overlap --kill-on-bad-exit=1 --job-name=pretrain --nodes={resources.nodes}"
        " --ntasks={resources.processes} --ntasks-per-node={resources.per_node} --cpus-per-task={threads}}};"
        " exec ${{start:-{resources.without_slurm}}}"
        " tvts pretrain {input.config} {params.datasets} --folder {params.training} --running {resources.running:q}"
        " --reader {resources.reader}"
        " --threads {threads} --minutes {resources.runtime} --model {output.model} --card {output.card} >> {log} 2>&1"


rule convert:
    # a released checkpoint of the official code as a model folder
    input:
        checkpoint=lambda wildcards: EXPERIMENT.runs[wildcards.run].checkpoint,
        clip=lambda wildcards: f"{EXPERIMENT.runs[wildcards.run].model.clip}/config.json",
    output:
        model=directory("results/runs/{run}/model"),
    log:
        "results/logs/convert/{run}.log",
    benchmark:
        "results/benchmarks/convert/{run}.jsonl"
    wildcard_constraints:
        run=one_of(name for name, run in EXPERIMENT.runs.items() if run.kind == "official"),
    conda:
        "../envs/train.yaml"
    threads: EXPERIMENT.config.resources.convert.threads
    resources:
        mem_mb=EXPERIMENT.config.resources.convert.mem_mb,
        runtime=EXPERIMENT.config.resources.convert.runtime,
    params:
        clip=lambda wildcards: EXPERIMENT.runs[wildcards.run].model.clip,
        mask_ratio=lambda wildcards: EXPERIMENT.runs[wildcards.run].model.mask_ratio,
    shell:
        "tvts convert {input.checkpoint} --clip {params.clip} --mask-ratio {params.mask_ratio}"
        " --output {output.model} > {log} 2>&1"
