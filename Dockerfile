# The container image that the Snakefile names. Build it with `docker build --tag kmax-deeplab:0.1.0 .` in this folder.
# Once it is in a registry that apptainer on the cluster can reach, `snakemake --software-deployment-method apptainer ...`
# runs every rule in it.
FROM python:3.12-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends git make procps \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/source
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY kmax kmax
RUN python -m venv /opt/kmax \
    && /opt/kmax/bin/python -m pip install --no-cache-dir --no-deps --requirement requirements.lock \
    && /opt/kmax/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .

ENV PATH=/opt/kmax/bin:$PATH \
    DO_NOT_TRACK=1 \
    DVC_NO_ANALYTICS=1 \
    MLFLOW_DISABLE_TELEMETRY=true
# The container runs as root, and the project is mounted at /work with its owner: git states its commit, which results
# record, only if the folder is trusted. Elsewhere: `git config --global --add safe.directory FOLDER`.
RUN git config --system --add safe.directory /work
WORKDIR /work
CMD ["kmax", "--help"]
