"""Teachers: rules that label scenes without people, as steps over the stream."""
