# Two images of the service:
#   docker build --target light -t galip:light .     # a CPU, ONNX Runtime, no torch
#   docker build --target gpu   -t galip:gpu   .     # an NVIDIA GPU: torch, whose wheels bring CUDA
# Run one: docker run -p 8000:8000 galip:light   (gpu: add --gpus all)
# tests/docs/test_dockerfile.py runs the steps without docker.
ARG PYTHON=python:3.12-slim

FROM ${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY configs configs
COPY src src
RUN python -m pip wheel --no-deps --wheel-dir /wheels .

FROM ${PYTHON} AS light
COPY --from=build /wheels /wheels
RUN python -m pip install --no-cache-dir "$(echo /wheels/*.whl)[serve]"
RUN useradd --create-home galip
USER galip
EXPOSE 8000
ENTRYPOINT ["galip"]
CMD ["serve", "--host", "0.0.0.0"]

FROM ${PYTHON} AS gpu
COPY --from=build /wheels /wheels
RUN python -m pip install --no-cache-dir "$(echo /wheels/*.whl)[serve,torch]"
RUN useradd --create-home galip
USER galip
EXPOSE 8000
ENTRYPOINT ["galip"]
CMD ["serve", "--host", "0.0.0.0", "--engine", "compile", "--device", "cuda"]
