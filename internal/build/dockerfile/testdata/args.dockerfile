# options: {"Args": {"B": "given", "HTTP_PROXY": "http://p", "LOST": "1"}}
ARG A=outer
ARG B=default
FROM scratch
ARG A
ARG B
ARG C=$A-$B
ARG D
ARG TARGETARCH
ENV B=env X=$A/$B/$C/${D:-none}/$UNKNOWN/$TARGETARCH
ENV Y=$B
RUN echo "$A"
SHELL ["/bin/bash", "-lc"]
RUN ["echo", "$A"]
RUN echo $B
CMD echo $X
