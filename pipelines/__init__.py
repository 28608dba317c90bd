"""The roof: recipes, the runner that turns one into a run, the command line, the report.

    from pipelines.load import load_recipe
    from pipelines.chain import run_recipe
    run_recipe(load_recipe("pipelines/demo.yaml"), "runs/demo")

The command line (`pipelines.cli`, installed as `mmcorpus`) is the only place that starts Ray.
"""
