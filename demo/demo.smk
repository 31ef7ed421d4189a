# Purpose: what stands in for the outside world in the demo: narrated videos, a CLIP, a benchmark; and how well the speech was understood.
# Needs:   the recorded phrases in demo/phrases.
# Makes:   results/demo/corpus (videos, urls.csv, script.json), results/demo/clip (a CLIP folder), results/demo/benchmark.

from pathlib import Path

DEMO = Path(workflow.current_basedir)


rule demo_corpus:
    # narrated procedural videos: coloured shapes that move, and a voice that tells
    output:
        list="results/demo/corpus/urls.csv",
        script="results/demo/corpus/script.json",
    log:
        "results/logs/demo/corpus.log",
    benchmark:
        "results/benchmarks/demo/corpus.jsonl"
    conda:
        "../envs/corpus.yaml"
    params:
        program=DEMO / "narrated.py",
        folder=subpath(output.list, parent=True),
        videos=EXPERIMENT.config.extra["videos"],
    shell:
        "python {params.program} --videos {params.videos} --output {params.folder} > {log} 2>&1"


rule demo_clip:
    # the stand-in for OpenAI's CLIP, trained on captioned stills
    output:
        "results/demo/clip/config.json",
    log:
        "results/logs/demo/clip.log",
    benchmark:
        "results/benchmarks/demo/clip.jsonl"
    conda:
        "../envs/train.yaml"
    params:
        program=DEMO / "clip.py",
        folder=subpath(output[0], parent=True),
        steps=EXPERIMENT.config.extra["clip_steps"],
    shell:
        "python {params.program} --steps {params.steps} --threads {threads} --output {params.folder} > {log} 2>&1"


rule demo_benchmark:
    # clips in the descriptive register: retrieval, zero-shot motion recognition, linear probe
    output:
        "results/demo/benchmark/test.csv",
    log:
        "results/logs/demo/benchmark.log",
    benchmark:
        "results/benchmarks/demo/benchmark.jsonl"
    conda:
        "../envs/corpus.yaml"
    params:
        program=DEMO / "benchmarks.py",
        folder=subpath(output[0], parent=True),
    shell:
        "python {params.program} --output {params.folder} > {log} 2>&1"


rule demo_word_errors:
    # what the recogniser heard against what was said
    input:
        script="results/demo/corpus/script.json",
        transcripts=expand("results/corpora/narrated/transcripts/{shard}.parquet", shard=shard_names("narrated")),
    output:
        report(
            "results/report/tables/word_errors.csv",
            category="Data",
            caption="../workflow/report/word_errors.rst",
            labels={"table": "word error rate"},
        ),
    log:
        "results/logs/demo/word_errors.log",
    localrule: True
    conda:
        "../envs/corpus.yaml"
    params:
        program=DEMO / "word_errors.py",
        transcripts=lambda wildcards, input: subpath(input.transcripts[0], parent=True),
    shell:
        "python {params.program} --script {input.script} --transcripts {params.transcripts} --output {output} > {log} 2>&1"


EXTRA_TARGETS.append("results/report/tables/word_errors.csv")
