"""The programs the embedded runtime has from the start. Run in processes of their own.

They are ``sampler``, ``estimator`` and, where the extra ``ibm`` is installed, ``executor``. A program is a module with
``main(backend, user_messenger, **inputs)``; what it returns is the job's result.
"""
