# hash3d in a container, for a CPU or for an NVIDIA GPU:
#   docker build --target cpu -t hash3d .
#   docker run --rm -v "$PWD:/work" hash3d generate zero123_gs --image photo.png --out my_asset
#   docker build --target cuda -t hash3d:cuda .    # run it with --gpus all
FROM python:3.12-slim AS base
RUN useradd --create-home --uid 1000 hash3d && mkdir /work && chown hash3d /work
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src src
WORKDIR /work
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["hash3d"]
CMD ["--help"]

FROM base AS cpu
RUN pip install --no-cache-dir -c /src/constraints.txt --index-url https://download.pytorch.org/whl/cpu torch \
    && pip install --no-cache-dir -c /src/constraints.txt "/src[web]"
USER 1000

# The wheels of torch bring CUDA; Triton compiles its launchers with a C compiler.
FROM base AS cuda
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir -c /src/constraints.txt "/src[web]"
USER 1000
