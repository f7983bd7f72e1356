# options: {"Target": "MID", "Start": "serve", "Ready": "check", "NoCache": true, "Context": "c"}
FROM a AS low
RUN low
FROM low AS mid
RUN mid
CMD ["x"]
FROM mid AS high
RUN high
