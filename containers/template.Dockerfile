# The launcher of a Flex Template: builds the graph from a template's parameters, and hands it to Dataflow.
#   python -m runners.remote.flex REGION-docker.pkg.dev/PROJECT/images/hardquery:template > template.json
#   gcloud storage cp template.json gs://BUCKET/hardquery.json
ARG LAUNCHER=gcr.io/dataflow-templates-base/python311-template-launcher-base:20260901-rc00
FROM ${LAUNCHER}
ARG EXTRAS=embedded,teacher,dataflow
COPY . /src
RUN pip install --no-cache-dir "/src[${EXTRAS}]" && pip check && rm -rf /src
COPY containers/launch.py /template/launch.py
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/launch.py
