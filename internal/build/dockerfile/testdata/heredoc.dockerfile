# options: {"Context": ""}
FROM debian
RUN <<EOF
set -e
echo $HOME
EOF
RUN <<-EOF
	echo tabs
EOF
RUN <<EOF
#!/usr/bin/env python3
print("hi")
EOF
RUN cat <<A > /a && cat <<B > /b
one
A
two
B
ENV WHO=me
COPY <<one.txt <<"two.txt" /dst/
hello $WHO
one.txt
hello $WHO
two.txt
