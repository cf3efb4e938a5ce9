"""Images in and out: loading, cutting out, framing, drawing."""
