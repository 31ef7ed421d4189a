# Purpose: one target per ablation: `snakemake ablation_freeze_depth`. Ablations are entries in config.yaml, never rules.
# Needs:   models and scores of every member run; a benchmark whose data are missing is left out of the figures.
# Makes:   results/report/figures/ablation_{ablation}.{png,pdf}, distortion_{ablation}.{png,pdf} where blocks are frozen.


rule ablation_figure:
    input:
        config="results/report/config.json",
        models=lambda wildcards: [model_of(run) for run in EXPERIMENT.ablation_runs(wildcards.ablation)],
        scores=lambda wildcards: scores(
            *EXPERIMENT.ablation_runs(wildcards.ablation), *baselines(wildcards.ablation), present=True
        ),
    output:
        png=report(
            "results/report/figures/ablation_{ablation}.png",
            category="Ablations",
            caption="../workflow/report/ablation.rst",
            labels={"figure": "scores", "ablation": "{ablation}"},
        ),
        pdf="results/report/figures/ablation_{ablation}.pdf",
    log:
        "results/logs/report/ablation_{ablation}.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        title=lambda wildcards: EXPERIMENT.config.ablations[wildcards.ablation].title or wildcards.ablation,
        members=lambda wildcards: EXPERIMENT.members[wildcards.ablation],
    shell:
        "tvts figure ablation {wildcards.ablation} --config {input.config} --output {output.png} > {log} 2>&1"


rule distortion_figure:
    input:
        config="results/report/config.json",
        scores=lambda wildcards: distortion_scores(wildcards.ablation),
    output:
        png=report(
            "results/report/figures/distortion_{ablation}.png",
            category="Ablations",
            caption="../workflow/report/distortion.rst",
            labels={"figure": "distortion", "ablation": "{ablation}"},
        ),
        pdf="results/report/figures/distortion_{ablation}.pdf",
    log:
        "results/logs/report/distortion_{ablation}.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    shell:
        "tvts figure distortion {wildcards.ablation} --config {input.config} --output {output.png} > {log} 2>&1"


for name in EXPERIMENT.config.ablations:

    rule:
        name:
            f"ablation_{name}"
        input:
            f"results/report/figures/ablation_{name}.png",
            distortion_figures(name),
            scores(*EXPERIMENT.ablation_runs(name)),
        localrule: True
