"""Where the steps of a run are done, and how one step's result reaches the next: chosen by AGG_EXECUTOR.

Belongs here: nothing that knows of tasks or bars. The database is the same for all; leases keep workers apart.
"""

from typing import Any

import dagster as dg

from agg_pipeline.settings import Settings, SettingsError


def executor_for(settings: Settings) -> dg.ExecutorDefinition:
    """The executor that AGG_EXECUTOR names. Raises SettingsError if the extra that it needs is not installed."""
    if settings.agg_executor == "in_process":
        return dg.in_process_executor
    if settings.agg_executor == "multiprocess":
        return dg.multiprocess_executor
    try:
        if settings.agg_executor == "celery":
            from dagster_celery import celery_executor

            return _configured(
                celery_executor, broker={"env": "AGG_CELERY_BROKER"}, backend={"env": "AGG_CELERY_BACKEND"}
            )
        from dagster_k8s import k8s_job_executor
    except ImportError as exc:
        raise SettingsError(
            f"AGG_EXECUTOR={settings.agg_executor} needs {exc.name}: "
            f"pip install 'agg-pipeline[{settings.agg_executor}]'."
        ) from None
    # Image, volumes and environment of a step are those of the run's own pod, which the run launcher sets.
    return _configured(k8s_job_executor, max_concurrent=settings.agg_k8s_max_pods)


def io_manager_for(settings: Settings) -> dict[str, object]:
    """The resource that carries results from step to step: memory, files of this machine, or a place that all share."""
    if settings.agg_executor == "in_process":
        return {"io_manager": dg.mem_io_manager}
    if settings.agg_executor == "multiprocess":
        return {"io_manager": dg.FilesystemIOManager()}
    if not settings.agg_shared_dir:
        raise SettingsError(
            f"AGG_EXECUTOR={settings.agg_executor} needs AGG_SHARED_DIR: a folder, or an fsspec URL like "
            "s3://bucket/path, that the run and all workers can read and write."
        )
    return {"io_manager": dg.FilesystemIOManager(base_dir=settings.agg_shared_dir)}


def _configured(executor: dg.ExecutorDefinition, **config: Any) -> dg.ExecutorDefinition:
    return executor.configured({name: value for name, value in config.items() if value is not None}, name=executor.name)
