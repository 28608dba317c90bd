"""The roof: recipes, the runner that turns one into a run, the command line, the report.

    from mmcorpus.pipelines.recipe.load import load_recipe
    from mmcorpus.pipelines.run.run_recipe import run_recipe
    run_recipe(load_recipe("demo"), "runs/demo")

The command line (`mmcorpus.pipelines.cli`, installed as `mmcorpus`) is the only place that starts Ray.
"""
