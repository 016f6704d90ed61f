"""worker: More than one"""

import azure.functions as func

app = func.FunctionApp()
other = func.FunctionApp()
