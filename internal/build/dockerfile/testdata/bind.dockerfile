FROM a AS unused
RUN true
FROM b AS tools
RUN make
FROM c
RUN --mount=target=/src --mount=type=bind,from=tools,source=bin,target=/tools,rw build
RUN --mount=type=bind,from=template:other,target=/other --mount=type=cache,target=/cache true
