# Two stages of one base: the first installs, the second only copies. No index, certificate or machine path is named
# here; whoever builds gives those to the builder (tools/build-image, IMAGE_BUILD_FLAGS).
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# A CPU build of torch saves gigabytes: name an index of CPU builds where pip's default would take one for GPUs.
ARG PIP_EXTRA_INDEX_URL
# Optional dependencies that the image has; see pyproject.toml.
ARG EXTRAS=milvus
WORKDIR /src
# To strip libraries of the names that only a debugger reads: 130 MB.
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
# pip has an environment of its own, so that the one that is copied is without.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
# What it depends on is a layer of its own: another version of this program moves some megabytes, not a gigabyte.
COPY pyproject.toml constraints.txt ./
RUN python3 -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        print(*p['dependencies'], *(r for e in sys.argv[1:] for r in p['optional-dependencies'][e]), sep='\n')" \
        ${EXTRAS} > requirements.txt \
    && /opt/pip/bin/pip --python /opt/venv install --no-cache-dir --constraint constraints.txt -r requirements.txt \
    && /opt/pip/bin/pip --python /opt/venv check \
    && cd /opt/venv/lib/python3*/site-packages \
    && /opt/venv/bin/python -c "import sys, torch; torch.version.cuda is None or sys.exit('this torch is built for GPUs \
and takes gigabytes; name an index of CPU builds: --build-arg PIP_EXTRA_INDEX_URL=...')" \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && rm -rf torch/test torch/include torch/share \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && strip --strip-unneeded torch/lib/libtorch_cpu.so torch/lib/libtorch_python.so llvmlite/binding/*.so uvloop/*.so \
    && echo /opt/hammingbird > hammingbird.pth
COPY README.md ./
COPY index ./index
COPY models ./models
COPY service ./service
# The kernels know their source by its time, and a layer keeps no fractions of seconds.
RUN /opt/pip/bin/pip --python /opt/venv install --no-cache-dir --no-deps --target /opt/hammingbird . \
    && find /opt/hammingbird -name '*.py' -exec python3 -c "import os, sys; \
        [os.utime(f, (int(os.stat(f).st_mtime),) * 2) for f in sys.argv[1:]]" {} + \
    && /opt/venv/bin/python -P -m index.warm /opt/hammingbird/kernels
# The account and its folders are made here and copied, so that the second stage has no RUN and nothing that the builder
# mounts leaves a trace in it.
RUN groupadd --gid 10001 hammingbird \
    && useradd --uid 10001 --gid 10001 --no-log-init --home-dir /data --no-create-home \
        --shell /usr/sbin/nologin hammingbird \
    && install -d -o 10001 -g 10001 -m 0750 /data /shared

FROM ${BASE}
COPY --from=build /etc/passwd /etc/group /etc/
COPY --from=build --chown=10001:10001 /data /data
COPY --from=build --chown=10001:10001 /shared /shared
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/hammingbird /opt/hammingbird
# On 0.0.0.0 it starts only where there is a key (docs/keys.md) or HAMMINGBIRD_ALLOW_OPEN says that none is needed.
# Threads that spin while they wait cost a request a hundred times its own work on a busy machine.
ENV PATH=/opt/hammingbird/bin:/opt/venv/bin:$PATH \
    HOME=/tmp \
    OMP_NUM_THREADS=1 \
    OMP_WAIT_POLICY=passive \
    NUMBA_CACHE_DIR=/data/.kernels \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HAMMINGBIRD_KERNELS=/opt/hammingbird/kernels \
    HAMMINGBIRD_HOST=0.0.0.0 \
    HAMMINGBIRD_DATA_DIR=/data
VOLUME /data
WORKDIR /data
EXPOSE 8000
STOPSIGNAL SIGTERM
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('HAMMINGBIRD_PORT', '8000') + '/readyz', timeout=4)"]
ENTRYPOINT ["hammingbird"]
CMD ["serve"]
ARG BASE
ARG VERSION
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="Hammingbird" \
    org.opencontainers.image.description="Semantic hashing as a service" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.base.name="${BASE}"
