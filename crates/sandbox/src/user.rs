//! Users and groups by the image's own `/etc/passwd` and `/etc/group`.
