"""worker: Could not find top level function app"""

import azure.functions as func

blueprint = func.Blueprint


def app() -> func.FunctionApp:
    return func.FunctionApp()
