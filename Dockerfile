# The sample project: web by default, and worker and beat by another command (see compose.yaml).
# An image for a project of your own looks the same, with a server for production in the place of runserver.
FROM python:3.13-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY koan_django koan_django
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir ".[messaging,media,scheduling,postgres]"

# The inbox over HTTP alone: docker build --target inbox .
FROM python:3.13-slim-bookworm AS build-inbox
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY koan_django koan_django
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir ".[messaging,redis,prometheus]" "gunicorn>=23.0"

FROM python:3.13-slim-bookworm AS inbox
# With a home: gunicorn keeps a socket there.
RUN useradd --system --uid 10001 --user-group --create-home app
COPY --from=build-inbox /venv /venv
WORKDIR /app
COPY sampleproject sampleproject
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=sampleproject.inboxservice.settings PORT=8080
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/health/ready', timeout=2)"]
CMD ["gunicorn", "--threads", "8", "sampleproject.inboxservice.wsgi"]

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --user-group app && install -d -o app -g app /data
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py ./
COPY sampleproject sampleproject
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 GALLERY_DATA=/data
VOLUME /data
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["python", "manage.py", "runserver", "--noreload", "0.0.0.0:8000"]
