"""Every test runs on profile tiny, in the cache of this user, without a GPU or a network."""
import os
os.environ['AUTORESEARCH_PROFILE'] = 'tiny'
os.environ.setdefault('PYDEVD_DISABLE_FILE_VALIDATION', '1')
