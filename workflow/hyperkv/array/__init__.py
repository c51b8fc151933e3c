"""Stage array: a RAID0 of NVMe disks under the stores, provisioned safely, measured, and verified before every use.

Only the standard library, baseline apart: an administrator can run it with any Python 3.11.
"""
