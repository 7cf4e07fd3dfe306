"""One store of images for many stations: what nodes are made from, pushed to an OCI registry and pulled from it.

    artifact   what stands under one tag, as values and as JSON (docs/share.md has the table of media types)
    packing    a range of an image as a compressed blob, and back
    reference  what a person calls a repository and a tag
    transport  HTTP that keeps secrets to https, and turns what goes wrong into pibake's errors
    login      requests with the credentials that a registry asks for, by way of the `oras` package
    registry   a repository: blobs and manifests
    push, pull  the two ways

Images are cut at fixed offsets, so images of one base share the blobs of the pieces in which they agree.
"""
