# Two stages of one base: the first installs into /opt/venv, the second only copies. No index, certificate or machine
# path is named here; whoever builds gives those to the builder (tools/build-image, IMAGE_BUILD_FLAGS).
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# A CPU build of torch saves gigabytes: name an index of CPU builds where pip's default would take one for GPUs.
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
RUN python3 -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md ./
COPY index ./index
COPY models ./models
COPY service ./service
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt . \
    && /opt/venv/bin/pip check \
    && site=$(/opt/venv/bin/python -c 'import torch, os; print(os.path.dirname(torch.__file__))') \
    && rm -rf "$site/test" "$site/include" \
    && find "$site/bin" -type f ! -name torch_shm_manager -delete
# The account and its folder are made here and copied, so that the second stage has no RUN and nothing that the builder
# mounts leaves a trace in it.
RUN groupadd --gid 10001 hammingbird \
    && useradd --uid 10001 --gid 10001 --no-log-init --home-dir /data --no-create-home \
        --shell /usr/sbin/nologin hammingbird \
    && install -d -o 10001 -g 10001 -m 0750 /data

FROM ${BASE}
COPY --from=build /etc/passwd /etc/group /etc/
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=10001:10001 /data /data
# On 0.0.0.0 it starts only where there is a key (docs/keys.md) or HAMMINGBIRD_ALLOW_OPEN says that none is needed.
# Threads that spin while they wait cost a request a hundred times its own work on a busy machine.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    OMP_NUM_THREADS=1 \
    OMP_WAIT_POLICY=passive \
    NUMBA_CACHE_DIR=/data/.kernels \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HAMMINGBIRD_HOST=0.0.0.0 \
    HAMMINGBIRD_DATA_DIR=/data
VOLUME /data
WORKDIR /data
EXPOSE 8000
STOPSIGNAL SIGTERM
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["hammingbird"]
CMD ["serve"]
