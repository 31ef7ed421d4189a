# Purpose: tables, figures, MLflow; `snakemake --report results/report/report.html` then gathers them in one page.
# Needs:   scores of all target runs, cards of datasets, metrics of trainings. A benchmark without data is left out and shown as not run.
# Makes:   results/report/tables/*.{md,csv,tex}, results/report/figures/*.{png,pdf}, results/mlflow.db,
#          and the card of every model


rule freeze_config:
    # the whole checked config: what tables and figures read
    output:
        "results/report/config.json",
    log:
        "results/logs/report/config.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        settings=EXPERIMENT.config.model_dump_json(),
    shell:
        "printf '%s\n' {params.settings:q} > {output} 2> {log}"


rule tables:
    input:
        config="results/report/config.json",
        scores=scores(*EXPERIMENT.target_runs(), present=True),
    output:
        results=report(
            "results/report/tables/results.csv",
            category="Results",
            caption="../workflow/report/tables.rst",
            labels={"table": "all runs"},
        ),
        paper=report(
            paper_tables(),
            category="Results",
            caption="../workflow/report/tables.rst",
            labels={"table": "ours beside the paper"},
        ),
        distortion=report(
            [
                figure.replace("figures", "tables").replace(".png", ".csv")
                for figure in distortion_figures(*EXPERIMENT.config.targets.ablations)
            ],
            category="Ablations",
            caption="../workflow/report/tables.rst",
            labels={"table": "distortion, means over seeds"},
        ),
        ablations=report(
            expand("results/report/tables/ablation_{ablation}.csv", ablation=EXPERIMENT.config.targets.ablations),
            category="Ablations",
            caption="../workflow/report/tables.rst",
            labels={"table": "means over seeds"},
        ),
        costs=report(
            "results/report/tables/costs.csv",
            category="Costs",
            caption="../workflow/report/costs.rst",
            labels={"table": "per stage"},
        ),
    log:
        "results/logs/report/tables.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        folder=subpath(output.results, parent=True),
    shell:
        "tvts tables --config {input.config} --output {params.folder} > {log} 2>&1"


rule page:
    # what was run, on what data, what came out, how it compares, what is missing; also the front of Snakemake's report
    input:
        config="results/report/config.json",
        tables="results/report/tables/results.csv",
        figures=expand("results/report/figures/ablation_{ablation}.png", ablation=EXPERIMENT.config.targets.ablations),
        distortion=distortion_figures(*EXPERIMENT.config.targets.ablations),
        scores=scores(*EXPERIMENT.target_runs(), present=True),
    output:
        html="results/report/index.html",
        rst="results/report/index.rst",
    log:
        "results/logs/report/page.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    shell:
        "tvts page --config {input.config} --output {output.html} > {log} 2>&1"


rule training_figure:
    input:
        config="results/report/config.json",
        cards=[f"results/runs/{run}/card.json" for run in trained_runs()],
    output:
        png=report(
            "results/report/figures/training.png",
            category="Training",
            caption="../workflow/report/training.rst",
            labels={"figure": "losses and sorting"},
        ),
        pdf="results/report/figures/training.pdf",
    log:
        "results/logs/report/training.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    shell:
        "tvts figure training all --config {input.config} --output {output.png} > {log} 2>&1"


rule funnel_figure:
    input:
        config="results/report/config.json",
        card="results/datasets/{dataset}/card.json",
    output:
        png=report(
            "results/report/figures/funnel_{dataset}.png",
            category="Data",
            caption="../workflow/report/funnel.rst",
            labels={"figure": "attrition", "dataset": "{dataset}"},
        ),
        pdf="results/report/figures/funnel_{dataset}.pdf",
    log:
        "results/logs/report/funnel_{dataset}.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    shell:
        "tvts figure funnel {wildcards.dataset} --config {input.config} --output {output.png} > {log} 2>&1"


rule window_figure:
    input:
        config="results/report/config.json",
        sorting=lambda wildcards: f"results/scores/{sorter_of(wildcards.dataset)}/{wildcards.dataset}.sorting.json",
    output:
        png=report(
            "results/report/figures/window_{dataset}.png",
            category="Data",
            caption="../workflow/report/window.rst",
            labels={"figure": "example window", "dataset": "{dataset}"},
        ),
        pdf="results/report/figures/window_{dataset}.pdf",
    log:
        "results/logs/report/window_{dataset}.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    shell:
        "tvts figure window {wildcards.dataset} --config {input.config} --output {output.png} > {log} 2>&1"


rule model_card:
    # also written to model/README.md, ready for a model hub
    input:
        config="results/report/config.json",
        model=lambda wildcards: model_of(wildcards.run),
        scores=lambda wildcards: scores(wildcards.run, present=True),
    output:
        "results/runs/{run}/README.md",
    log:
        "results/logs/report/model_card_{run}.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    shell:
        "tvts model-card {wildcards.run} --config {input.config} --output {output} > {log} 2>&1"


rule results_page:
    # every number leads to its run in MLflow
    input:
        config="results/report/config.json",
        tracked="results/mlflow.json",
        scores=scores(*EXPERIMENT.target_runs(), present=True),
    output:
        report(
            "results/report/results.html",
            category="Results",
            caption="../workflow/report/results_page.rst",
            labels={"table": "all runs, each number linked to its run in MLflow"},
        ),
    log:
        "results/logs/report/results_page.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    shell:
        "tvts results-page --config {input.config} --tracked {input.tracked} --output {output} > {log} 2>&1"


rule track:
    # one writer imports everything into MLflow; by hand at any time: tvts track --config results/report/config.json
    input:
        config="results/report/config.json",
        tables="results/report/tables/results.csv",
        training=training_figures(),
        ablations=expand("results/report/figures/ablation_{ablation}.png", ablation=EXPERIMENT.config.targets.ablations),
        distortion=distortion_figures(*EXPERIMENT.config.targets.ablations),
        data=expand(
            "results/report/figures/{kind}_{dataset}.png", kind=["funnel", "window"], dataset=sorting_datasets()
        ),
        extra=lambda wildcards: [path for path in EXTRA_TARGETS if path.startswith("results/report/")],
        scores=scores(*EXPERIMENT.target_runs(), present=True),
    output:
        "results/mlflow.json",
    log:
        "results/logs/report/track.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    shell:
        "tvts track --config {input.config} --output {output} > {log} 2>&1"
