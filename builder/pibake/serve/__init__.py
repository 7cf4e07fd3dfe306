"""The wire's engines: started, watched, and told of what has changed."""
