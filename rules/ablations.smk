# Purpose: one target per ablation: `snakemake ablation_freeze_depth`. Ablations are entries in config.yaml, never rules.
# Needs:   scores of every member run.
# Makes:   results/report/ablations/{ablation}.{png,pdf} and their tables.


rule ablation_figure:
    input:
        config="results/report/config.json",
        scores=lambda wildcards: scores(*EXPERIMENT.ablation_runs(wildcards.ablation), *baselines()),
    output:
        png=report(
            "results/report/figures/ablation_{ablation}.png",
            category="Ablations",
            caption="../workflow/report/ablation.rst",
            labels={"ablation": "{ablation}"},
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


for name in EXPERIMENT.config.ablations:

    rule:
        name:
            f"ablation_{name}"
        input:
            f"results/report/figures/ablation_{name}.png",
        localrule: True
