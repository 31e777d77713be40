"""What actors and learners both speak: data, policies, replay, configuration, errors."""
