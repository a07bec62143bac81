//! Dockerfile to image, without a daemon.
