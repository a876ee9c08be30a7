# A service for one model: the base install with the extra serve, without torch, as a user without rights.
#
#   docker build -t fullconv .
#   docker run --rm -p 127.0.0.1:8000:8000 -e FULLCONV_TOKEN=a-long-token --read-only --tmpfs /tmp fullconv
#
# Another model than street: -v "$PWD/runs/mine:/model:ro" and the command `/model/model.onnx` at the end.
FROM python:3.13-slim AS build
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir "/source[serve,geo]"

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home fullconv
COPY --from=build /venv /venv
USER 10001
ENV PYTHONUNBUFFERED=1 HOME=/tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["/venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["/venv/bin/fullconv", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["street"]
