# Workers with a GPU for steps that ask for one (extract.asr.resources, …): Whisper, EasyOCR, models in process.
#   docker build -f containers/extract-gpu.Dockerfile -t REGION-docker.pkg.dev/PROJECT/images/hardquery:extract-gpu .
# torch's wheels bring CUDA along; the driver comes from the machine (install-nvidia-driver).
ARG PYTHON=3.11
ARG BEAM=2.77.0
FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam

FROM python:${PYTHON}-slim-bookworm
ARG EXTRAS=embedded,whisper,faster-whisper,easyocr,local,embed,teacher,dataflow
COPY . /src
# The folder by its path: without it pip would look for somebody else's package of this name.
RUN python -m venv /opt/hardquery \
    && /opt/hardquery/bin/pip install --no-cache-dir "/src[${EXTRAS}]" \
    && /opt/hardquery/bin/pip check \
    && rm -rf /src
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENV PATH=/opt/hardquery/bin:/usr/local/bin:/usr/bin:/bin RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]
