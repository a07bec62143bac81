FROM scratch
RUN <<EOF cat >/x && cat <<-"TWO"
body $v
EOF
	stripped
	TWO
COPY <<a.txt /d/
x
a.txt
ONBUILD RUN true
EXPOSE 80 90/udp
VOLUME /a /b
