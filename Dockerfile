# Two images from one file: `--target api` (no torch) and `--target worker`.
# They run as uid 10001 with a read-only root; only /data and /tmp are written to.
FROM python:3.12-slim AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/srv/rootnote \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    ROOTNOTE_DATA_DIR=/data \
    ROOTNOTE_HOST=0.0.0.0
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp rootnote \
    && install --directory --owner=rootnote --group=rootnote /data /data/spool
WORKDIR /srv/rootnote

# Dependencies and the `rootnote` command. The source comes last, so that a change to it installs nothing again.
FROM base AS api-venv
COPY pyproject.toml README.md LICENSE ./
COPY .ci/constraints.txt .ci/
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir --constraint .ci/constraints.txt .

# TORCH: which torch. TORCH_INDEX: where from, e.g. an index of CPU builds; empty means pip's own default.
FROM api-venv AS worker-venv
ARG TORCH="torch>=2.11,<2.15"
ARG TORCH_INDEX=""
RUN pip install --no-cache-dir --constraint .ci/constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH" \
    && pip install --no-cache-dir --constraint .ci/constraints.txt '.[worker]'

FROM base AS worker
ENV HF_HUB_OFFLINE=1
COPY --from=worker-venv /opt/venv /opt/venv
COPY pyproject.toml ./
COPY app app
COPY worker worker
USER 10001
VOLUME /data
# Up to ten minutes of loading; then its sign of life in the database counts.
HEALTHCHECK --interval=30s --timeout=20s --start-period=600s --retries=3 CMD ["python", "-m", "worker.alive"]
CMD ["celery", "--app=worker.celery:celery", "worker", "--loglevel=INFO", \
     "--without-gossip", "--without-mingle", "--without-heartbeat"]

FROM base AS api
COPY --from=api-venv /opt/venv /opt/venv
COPY pyproject.toml ./
COPY app app
COPY migrations migrations
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["uvicorn", "--factory", "app.main:create_app", "--host=0.0.0.0", "--port=8000", \
     "--http=app.protocol:BoundedProtocol", "--no-access-log", "--timeout-graceful-shutdown=5"]
