"""The programs the embedded runtime has from the start: ``sampler`` and ``estimator``. Run in processes of their own.

A program is a module with ``main(backend, user_messenger, **inputs)``; what it returns is the job's result.
"""
