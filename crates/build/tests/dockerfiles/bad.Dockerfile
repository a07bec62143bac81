RUN early
FROM
FROM a b c
FROM x AS 1bad
FROM x AS s
FROM y AS s
COPY one
COPY a b c
COPY --frm=x a /
SHELL bash
ENV lonely
ENV a=b c
LABEL
HEALTHCHECK maybe
HEALTHCHECK --retries=x NONE
ONBUILD FROM x
ONBUILD RUNN x
RUN --security=insecure x
RUN --network=host x
ADD --checksum=sha256:0 a /
ADD git@host:x.git /
WORKDRI /x
RUN cat <<EOF
never ends
