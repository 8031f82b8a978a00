"""Executor of the steps of a run and storage of their results, both chosen by AGG_EXECUTOR.

Leases in the database keep workers apart, so tasks and bars do not matter here.
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
    # A step gets image, volumes and environment of the pod of its run, which the run launcher sets.
    return _configured(k8s_job_executor, max_concurrent=settings.agg_k8s_max_pods)


def io_manager_for(settings: Settings) -> dict[str, object]:
    """IO manager for results of steps: memory, files on this machine, or files that all workers share.

    Raises SettingsError if AGG_SHARED_DIR is needed and missing.
    """
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
