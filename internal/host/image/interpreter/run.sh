#!/bin/sh
# Runs the code interpreter and starts it again a moment after it has ended. Kernels of an
# ended server end by themselves.
cd /
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
while :; do
	python3 /usr/local/lib/code-interpreter/server.py
	echo "the code interpreter ended with $?; starting it again"
	sleep 1
done
