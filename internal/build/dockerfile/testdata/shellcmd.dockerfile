FROM a AS parent
SHELL ["/bin/bash", "-c"]
ENTRYPOINT ["/entry"]
FROM parent
CMD serve --port 80
HEALTHCHECK CMD curl localhost
