# escape=`
FROM node:20 AS a
ADD --chown=app:app --chmod=0755 --exclude=*.md --link src.tar.gz `
    /srv/
COPY --parents a/b/c.txt /d/
LABEL a=b
VOLUME /data
STOPSIGNAL TERM
ONBUILD RUN true
MAINTAINER me
RUN --network=none make
