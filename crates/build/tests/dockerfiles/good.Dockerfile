# syntax=docker/dockerfile:1
# escape=`

# a comment
ARG v=1
FROM --platform=linux/amd64 base:$v AS Build
RUN echo one `
  # within

  && echo two
COPY --from=other --chown=1:2 ["a b", "c", "d/"]
ENV a=1 b="two words" c=t` x
ENV old form of it
CMD ["x", "y"]
CMD not json [
HEALTHCHECK --interval=1m30s CMD true
