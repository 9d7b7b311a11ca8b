"""The download stage: raw files from their URLs, verified and unpacked."""
