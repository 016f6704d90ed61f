"""worker: KeyError"""

import os

import azure.functions as func

app = func.FunctionApp()
QUEUE = os.environ["A_SETTING_NOBODY_SET"]
