"""Who asks and what runs for them: jobs, endpoints, guards, visitors and their files."""
