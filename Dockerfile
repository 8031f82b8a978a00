# One image for the code server of each environment, Dagster's webserver and its daemon; the command says which.
# docker build -t agg-pipeline .
FROM python:3.13-slim-trixie AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1
RUN pip install --no-cache-dir uv==0.13.8
WORKDIR /src
# The lock also lists development tools; as constraints it pins versions and hashes of what pyproject.toml requires.
COPY pyproject.toml requirements.lock ./
RUN uv venv /opt/venv && uv pip install --python /opt/venv/bin/python -r pyproject.toml -c requirements.lock
COPY README.md LICENSE dagster.yaml ./
COPY agg_pipeline agg_pipeline
RUN uv pip install --python /opt/venv/bin/python --no-deps --build-constraints requirements.lock .

FROM python:3.13-slim-trixie
RUN useradd --uid 10001 --no-create-home --home-dir /opt/dagster dagster \
    && install -d -o dagster -g dagster /opt/dagster /opt/dagster/storage
COPY --from=build /opt/venv /opt/venv
COPY dagster.yaml deploy/workspace.yaml /opt/dagster/
# DAGSTER_EVENT_BATCH_SIZE: without it each day of a backfill costs a connection to Dagster's storage for each timeframe.
ENV PATH=/opt/venv/bin:$PATH DAGSTER_HOME=/opt/dagster DAGSTER_EVENT_BATCH_SIZE=1000 PYTHONUNBUFFERED=1
WORKDIR /opt/dagster
USER 10001
EXPOSE 4000
# For the code server; compose.yaml has the health checks of the others.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
CMD ["dagster", "code-server", "start", "-m", "agg_pipeline.definitions", "-h", "0.0.0.0", "-p", "4000"]
