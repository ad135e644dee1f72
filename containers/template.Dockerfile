# The launcher of a Flex Template: builds the graph from a template's parameters, and hands it to Dataflow.
#   python -m runners.remote.flex REGION-docker.pkg.dev/PROJECT/images/hardquery:template > template.json
#   gcloud storage cp template.json gs://BUCKET/hardquery.json
# LAUNCHER is Google's base image of launchers for Python 3.11 with a dated tag: there is no default that would stay true.
#   docker build -f containers/template.Dockerfile --build-arg LAUNCHER=…/python311-template-launcher-base:DATE -t … .
ARG LAUNCHER
FROM ${LAUNCHER}
ARG EXTRAS=embedded,teacher,dataflow
COPY . /src
RUN pip install --no-cache-dir "/src[${EXTRAS}]" && pip check && rm -rf /src
COPY containers/launch.py /template/launch.py
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/launch.py
