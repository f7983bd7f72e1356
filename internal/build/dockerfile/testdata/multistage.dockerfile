# syntax=docker/dockerfile:1
ARG VERSION=3.12
FROM python:${VERSION} AS build
WORKDIR /src
COPY --chown=1000:1000 requirements.txt *.py ./
RUN --mount=type=secret,id=token --mount=type=cache,target=/root/.cache/pip pip install -r requirements.txt
FROM debian AS unused
RUN false
FROM build AS test
RUN pytest
FROM template:base:v2
ARG VERSION
COPY --from=build /src/dist /app
COPY --from=busybox:1 /bin/busybox /bin/
ENV NAME="a b" PORT=80
USER app
EXPOSE 80
HEALTHCHECK --interval=5s CMD curl -f http://localhost:$PORT/
ENTRYPOINT ["python3", "-m"]
CMD ["http.server", "it's"]
